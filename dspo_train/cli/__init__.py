"""The command line: arguments in, the library's functions called, sentences and a progress bar out."""
