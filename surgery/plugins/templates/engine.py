import pickle
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread

import surgery
from surgery.stages import Lost

PROGRAM = """
import os, pickle, sys
tasks, messages = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what the model prints goes to standard error

def send(message):
    pickle.dump(message, messages)
    messages.flush()

job, stop_file = pickle.load(tasks)
with job.open() as worker:
    while True:
        worker.run(pickle.load(tasks), send, lambda: os.path.exists(stop_file))
"""


@dataclass(frozen=True)
class Ember:
    """Starts each worker by a command: here Python, elsewhere one that starts it on another machine."""

    workers: int = 2

    @contextmanager
    def __call__(self, job):
        packed = job.pack()  # bytes: a worker needs nothing of this process, but has to see the same files
        with TemporaryDirectory() as folder:
            workers = Workers(min(self.workers, job.batches), packed, Path(folder) / "stop")
            try:
                yield workers
            finally:
                workers.end()


class Workers:
    def __init__(self, count, job, stop_file):
        self.count, self.job, self.stop_file = count, job, stop_file
        self.messages, self.processes = SimpleQueue(), {}
        for number in range(count):
            self.start(number)

    def start(self, number):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self.processes[number] = subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes)
        Thread(target=self.listen, args=(number, process), daemon=True).start()
        self.send(number, (self.job, str(self.stop_file)))

    def listen(self, number, process):
        with suppress(EOFError, pickle.UnpicklingError, ValueError):
            while True:
                self.messages.put((number, pickle.load(process.stdout)))
        self.messages.put((number, Lost(f"has ended (exit code {process.wait()})")))

    def send(self, number, message):
        with suppress(OSError):  # it has ended, which `listen` tells
            pickle.dump(message, self.processes[number].stdin)
            self.processes[number].stdin.flush()

    def submit(self, worker, task):  # its next task comes when the result of this one was delivered
        self.send(worker, task)

    def receive(self, deliver, seconds):  # what order, progress and retries need is done by the run
        with suppress(Empty):
            number, message = self.messages.get(timeout=seconds)
            if isinstance(message, Lost):
                self.start(number)
            deliver(number, message)

    def stop(self):
        self.stop_file.touch()

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.communicate()


@surgery.hookimpl
def surgery_engines():
    return {"ember": Ember()}
