"""What a program loads, as a picture and in words."""
