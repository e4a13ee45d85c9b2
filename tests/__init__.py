"""The tests; a package, so that runs in other processes can name its back ends."""
