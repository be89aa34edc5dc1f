"""What is computed: architectures traced into lists of operations, and NumPy's answer to each."""
