"""Pure numpy functions between files and models: reading, preparation, patches."""
