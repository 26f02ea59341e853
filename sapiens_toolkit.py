# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the console command ``sapiens`` enters: outside the package, to answer even if Python finds another `sapiens`.

Sapiens2's package and an antibody language model on PyPI import under that name too.
"""

import sys


def main() -> None:
    """Run `sapiens.cli`, or say in one line which package is in its way."""
    try:
        import sapiens
    except Exception as error:  # whatever a foreign package may raise
        sys.exit(f'error: {explain(repr(error))}')
    if not hasattr(sapiens, 'TOOLKIT'):
        sys.exit(f'error: {explain(getattr(sapiens, "__file__", None) or "a folder without __init__.py")}')
    from sapiens.cli import main as run

    run()


def explain(found: str) -> str:
    """One line for a package `sapiens` that is not ours, with the distribution that brought it."""
    from importlib.metadata import distributions

    others = {}
    for one in distributions():  # packages_distributions() knows fewer on Python 3.10
        if any(file.parts[0] == 'sapiens' for file in one.files or ()) and one.metadata['Name'] != 'sapiens-toolkit':
            others[one.metadata['Name']] = one.version
    named = ', '.join(f'{name} {others[name]}' for name in sorted(others))
    mend = f'pip uninstall {" ".join(sorted(others))}' if others else 'move it off the path (PYTHONPATH, this folder)'
    return (
        f"Python finds another package 'sapiens' than this toolkit's: {named + ', ' if named else ''}{found}; {mend} "
        'and pip install --force-reinstall --no-deps sapiens-toolkit, or use an environment of its own'
    )
