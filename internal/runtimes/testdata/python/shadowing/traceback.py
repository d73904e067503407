raise RuntimeError("shadows the library")
