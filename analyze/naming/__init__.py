"""What stages and kernels are called, everywhere: numbers folded, kernels in short, no two things under one name."""
