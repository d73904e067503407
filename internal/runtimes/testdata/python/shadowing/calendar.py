MINE = "the function's"
