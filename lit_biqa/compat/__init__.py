"""What the project takes from the inside of libraries, one module for each of them."""
