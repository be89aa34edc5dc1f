"""Where llamaq meets who uses it: arguments checked by name, files of users opened and written whole."""
