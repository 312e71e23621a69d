"""FHIRPath: constraints, search parameters and patches say with it where in a resource, and what must be true."""
