"""The Registry knows: definitions of types read into one form, published as JSON Schema, and checked against."""
