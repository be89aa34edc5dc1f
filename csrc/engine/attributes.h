// The attributes of an op as Python gives them, read by name and type. An attribute that nobody reads is an error, so an
// op of a plan cannot ask for what this executor does not do.
#pragma once
#include <stdint.h>

#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace llamaq {

class Attributes {
 public:
  using Value = std::variant<int64_t, double, std::string, std::vector<int64_t>>;

  Attributes(std::string kind, std::map<std::string, Value> values);

  const std::string& kind() const { return kind_; }
  // Each throws Error where the attribute is missing or of another type.
  int integer(const std::string& name);
  int integer(const std::string& name, int absent);  // `absent` where there is no such attribute
  float number(const std::string& name);
  float number(const std::string& name, float absent);
  const std::string& text(const std::string& name);
  std::vector<int> integers(const std::string& name, size_t count);
  std::vector<int> integers(const std::string& name);
  void finish() const;  // throws Error where an attribute has not been read

 private:
  template <class T>
  const T& get(const std::string& name);

  std::string kind_;
  std::map<std::string, Value> values_;
  std::set<std::string> read_;
};

}  // namespace llamaq
