"""What loaders do with a program: their rules, the walk of its object closure, and what is wrong with it."""
