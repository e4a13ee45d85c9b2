"""The image store: named folders of files, each whole or absent. What is in the files is no matter here."""
