#include "engine/attributes.h"

#include <utility>

#include "core/error.h"

namespace llamaq {

Attributes::Attributes(std::string kind, std::map<std::string, Value> values)
    : kind_(std::move(kind)), values_(std::move(values)) {}

template <class T>
const T& Attributes::get(const std::string& name) {
  const auto found = values_.find(name);
  if (found == values_.end()) throw Error("the op '" + kind_ + "' needs the attribute '" + name + "'");
  const T* value = std::get_if<T>(&found->second);
  if (!value) throw Error("the attribute '" + name + "' of the op '" + kind_ + "' has another type");
  read_.insert(name);
  return *value;
}

int Attributes::integer(const std::string& name) { return static_cast<int>(get<int64_t>(name)); }

int Attributes::integer(const std::string& name, int absent) { return values_.count(name) ? integer(name) : absent; }

float Attributes::number(const std::string& name) { return static_cast<float>(get<double>(name)); }

float Attributes::number(const std::string& name, float absent) { return values_.count(name) ? number(name) : absent; }

const std::string& Attributes::text(const std::string& name) { return get<std::string>(name); }

std::vector<int> Attributes::integers(const std::string& name) {
  const auto& values = get<std::vector<int64_t>>(name);
  return std::vector<int>(values.begin(), values.end());
}

std::vector<int> Attributes::integers(const std::string& name, size_t count) {
  std::vector<int> values = integers(name);
  if (values.size() != count)
    throw Error("the attribute '" + name + "' of the op '" + kind_ + "' needs " + std::to_string(count) + " values");
  return values;
}

void Attributes::finish() const {
  for (const auto& item : values_)
    if (!read_.count(item.first)) throw Error("the op '" + kind_ + "' has no attribute '" + item.first + "'");
}

}  // namespace llamaq
