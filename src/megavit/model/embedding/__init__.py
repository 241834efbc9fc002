"""The layers that turn images into tokens: patches or convolutions, and prefix tokens."""
