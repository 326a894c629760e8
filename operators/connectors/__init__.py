"""Where the outside is read and written: the only code that touches files, brokers and clocks."""
