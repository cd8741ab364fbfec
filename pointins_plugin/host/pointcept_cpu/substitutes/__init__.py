"""Stand-ins for packages, one a file, named after what they stand in for."""
