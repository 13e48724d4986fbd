"""Archives from outside, unpacked by our own hands: ordinary files alone, below one new folder, within limits."""
