//! What the command line takes, and that every command explains itself.
