"""The paper's tables: numbers (means, paper, comparison), then their layout and print (layouts, formats)."""
