import builtins; builtins.CUSTOMIZED = True
