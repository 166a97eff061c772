"""
Make the picture of a run on a terminal: what stood on the screen in the middle of it, and at its end.

``python docs/terminal_picture.py snakemake --cores 2 --configfile config/demo.yaml`` runs this command on a
terminal of its own, shows it here, too, and writes docs/terminal.svg from what it wrote.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
COLUMNS, ROWS = 100, 30
CHARACTER, LINE, MARGIN = 8.1, 18, 16  # of the picture, pixels


def record(command: list[str]) -> list[tuple[float, str]]:
    """Run a command on a terminal; what it wrote, with the seconds since the start."""
    child, terminal = pty.fork()
    if not child:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    parts, begun = [], time.monotonic()
    try:
        while part := os.read(terminal, 65536):
            parts.append((time.monotonic() - begun, part.decode(errors="replace")))
            sys.stdout.write(parts[-1][1])
            sys.stdout.flush()
    except OSError:  # its end
        os.close(terminal)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit("the command failed: no picture")
    return parts


def screen(text: str) -> list[str]:
    """Lines that stand on a terminal after a text; of control sequences those that `terminal` uses."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\d*[AJ]|\x1b\[\d*m|\n|\r|[^\x1b\n\r]+", text):
        if part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            rows, column = [*rows[:row], rows[row][:column]], column
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part == "\r":
            column = 0
        elif not part.startswith("\x1b"):
            rows[row] = rows[row][:column] + part + rows[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in rows]


def middle(parts: list[tuple[float, str]]) -> list[str]:
    """Screen from the time when half of the products were done, the first with the most jobs at work."""
    written, best = "", []
    for _, part in parts:
        written += part
        lines = screen(written)
        counts = re.findall(r"^romosaic: (\d+) of (\d+) products \|", "\n".join(lines), re.M)
        done, all_ = map(int, counts[-1]) if counts else (0, 1)
        if all_ <= 2 * done < 2 * all_ and len(lines) > len(best):
            best = lines
    return best or sys.exit("no moment with half of the products done: the run was too short")


def own(lines: list[str]) -> list[str]:
    """Lines of romosaic: from the first that begins with its name."""
    first = next(k for k, line in enumerate(lines) if line.startswith("romosaic: "))
    return [line for line in lines[first:] if line]


def svg(command: str, panels: list[list[str]]) -> str:
    """Draw panels of lines one below the other, after the command."""
    rows = [f"$ {command}", *panels[0]]
    for lines in panels[1:]:
        rows += ["", *lines]
    width = 2 * MARGIN + CHARACTER * max(map(len, rows))
    height = 2 * MARGIN + LINE * len(rows)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#1e2229"/>\n'
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13.4" fill="#d7dae0">\n'
    )
    texts = []
    for number, row in enumerate(rows):
        y = MARGIN + LINE * (number + 0.75)
        color = ' fill="#8fc7ff"' if row.startswith(("romosaic: ", "$ ")) else ""
        length = f' textLength="{CHARACTER * len(row):.1f}"' if row else ""
        texts.append(
            f'<text x="{MARGIN}" y="{y:.1f}" xml:space="preserve"{length}{color}>{escape(row)}</text>\n'
        )
    return head + "".join(texts) + "</g>\n</svg>\n"


def main() -> None:
    """Run the command and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    command = parser.parse_args().command
    parts = record(command)
    end = screen("".join(part for _, part in parts))
    picture = svg(" ".join(command), [own(middle(parts)), own(end)])
    (DOCS / "terminal.svg").write_text(picture)


if __name__ == "__main__":
    main()
