"""What the built-in back ends say of themselves, one module per kind; entry points name them."""
