"""Archives as an audit reads them, without a lock, from wherever they lie."""
