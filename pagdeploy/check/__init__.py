"""Does the engine say what the reference says?"""
