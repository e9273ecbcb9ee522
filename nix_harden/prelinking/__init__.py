"""Work out beforehand which address each symbol of a program has, and give its loader a module that knows: prelink, without fixed addresses."""
