import multiprocessing
import os
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait

import torch

import surgery
from surgery.stages import Lost


@dataclass(frozen=True)
class Ember:
    """Runs the model in forks of this process."""

    workers: int = 2

    @contextmanager
    def __call__(self, job):
        # A worker that is no fork of this process needs job.pack(): bytes, for any process that sees the same files.
        workers = Workers(min(self.workers, job.batches), job)
        try:
            yield workers
        finally:
            workers.end()


def work(job, tasks, stopped, parent):
    torch.set_num_threads(1)
    with job.open() as worker:
        while True:
            while not tasks.poll(0.2):
                if os.getppid() != parent:  # what a killed run leaves must not hold its folder
                    os._exit(1)
            worker.run(tasks.recv(), tasks.send, lambda: bool(stopped.value))


class Workers:
    def __init__(self, count, job):
        self.count, self.job, self.context = count, job, multiprocessing.get_context("fork")
        self.stopped, self.processes, self.pipes = self.context.RawValue("b", 0), {}, {}
        for number in range(count):
            self.start(number)

    def start(self, number):
        self.pipes[number], theirs = self.context.Pipe()
        arguments = (self.job, theirs, self.stopped, os.getpid())
        self.processes[number] = self.context.Process(target=work, args=arguments, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork loses the threads of torch, and uses none
            self.processes[number].start()
        theirs.close()

    def submit(self, worker, task):  # its next task comes when the result of this one was delivered
        with suppress(OSError):  # it has ended, which `receive` tells
            self.pipes[worker].send(task)

    def receive(self, deliver, seconds):  # what order, progress and retries need is done by the run
        numbers = {pipe: number for number, pipe in self.pipes.items()}
        for pipe in wait(list(numbers), seconds):
            number = numbers[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                self.processes[number].join()
                message = Lost(f"has ended (exit code {self.processes[number].exitcode})")
                self.start(number)
            deliver(number, message)

    def stop(self):
        self.stopped.value = 1

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.join()


@surgery.hookimpl
def surgery_engines():
    return {"ember": Ember()}
