"""Operations, a file for each: its fields, its shapes, its result in NumPy, and the method that traces it."""
