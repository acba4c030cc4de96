"""What a row is: schema, parsing, vocabularies, transforms, click statistics and row blocks."""
