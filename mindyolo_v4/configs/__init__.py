"""The recipes of an installed package: it holds the files of `configs/` of the repository here."""
