"""What the tests share: stores to build in, sources to compile, programs to trace, names to read back."""
