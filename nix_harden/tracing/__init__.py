"""What a loader really does at the start of a program, seen from outside."""
