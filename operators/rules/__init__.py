"""What marketers write: campaigns, segments and templates, checked and compiled.

A set loads whole or not at all. `load_rules` reads a directory; `check_rules` and `lint` say what is wrong.
"""

from operators.rules.faults import Fault, RulesRefused
from operators.rules.load import Rules, check_rules, files_of, lint, load_rules, none_in_force

__all__ = ["Fault", "Rules", "RulesRefused", "check_rules", "files_of", "lint", "load_rules", "none_in_force"]
