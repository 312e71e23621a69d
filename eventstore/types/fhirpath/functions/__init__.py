"""The functions of FHIRPath, by subject; `table` names them."""
