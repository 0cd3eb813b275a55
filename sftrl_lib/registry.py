"""What can be added to the book by one file that declares itself: a task, a method, an ablation, a
command. (A family of image models, too: `engine.families`.)

    @register_task("countdown")
    class Countdown(Task): ...
"""

from commons.registry import Registry

register_task = TASKS = Registry("task", "sftrl_lib.tasks")
register_method = METHODS = Registry("method", "sftrl_lib.methods")
register_ablation = ABLATIONS = Registry("ablation")
# A class whose docstring is its help: `options(option)` adds options, `run(args)` returns the exit
# status, or None for 0.
register_command = COMMANDS = Registry("command")
