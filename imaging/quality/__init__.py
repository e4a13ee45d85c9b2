"""How good a picture is, as numbers, and what a gate decides from a number. It knows no faces."""
