"""What the phases of the table call: functions for ``python``, and handlers."""

WORK = """
import os, resource, signal, subprocess, sys, time
from planter_runtime import heartbeat, report_progress

STAYS = "trap '' TERM; echo $$ >> left; sleep 1000"

def arguments(n): return {"n": n}
def variable(): print(os.environ["GREETING"])
def environment(): print(sum("OF_THE_RUNTIME" in name for name in os.environ))
def folder(): print(open("here").read().strip())
def own_python():
    import importlib.util
    has = importlib.util.find_spec("msgspec") is not None
    print(os.path.basename(sys.prefix), has, heartbeat.__name__, sep="\\n")
def rows(): return {"rows": [1, 2]}
def lines(): print("\\n".join(map(str, range(2_000))))
def binary(): sys.stdout.buffer.write(os.urandom(100_000) + b"\\nend\\n")
def broken(): raise ValueError("oops")
def crash():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)
def stays():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sh", "-c", STAYS]).wait()
def tidies():
    def on_term(*_):
        print("last", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, on_term)
    print("up", flush=True)
    while True: time.sleep(0.05)
def sleeps(): time.sleep(1000)
def leaves():
    subprocess.Popen(["setsid", "sh", "-c", STAYS])
    while not os.path.exists("left") or not os.path.getsize("left"): time.sleep(0.01)
def secret(): print(os.environ["TOKEN"], len(os.environ["TOKEN"]))
def chatters():
    while True: print("y" * 1000)
def greedy(): bytearray(2**30)
def spins():
    while True: pass
def files(): print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
def file_size(): print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
def interfaces(): print(*(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]))
def until_heard():
    while not os.path.exists(f"heard-{os.environ['PLANTER_PHASE']}"): time.sleep(0.02)
def beats():
    heartbeat({"at": 1})
    until_heard()
def progresses():
    report_progress(1, 2, "rows")
    until_heard()
"""

HANDLERS = """
import os
import anyio
from planter_runtime import Runtime

runtime = Runtime()

async def until_heard(ctx):
    while not os.path.exists(f"heard-{ctx.phase}"): await anyio.sleep(0.02)

@runtime.handler(phase="arguments")
def arguments(ctx, n: int): return {"n": n}

@runtime.handler(phase="rows")
async def rows(ctx): return {"rows": [1, 2]}

@runtime.handler(phase="lines")
async def lines(ctx):
    for n in range(2_000): ctx.log(str(n))

@runtime.handler(phase="broken")
def broken(ctx): raise ValueError("oops")

@runtime.handler(phase="waits")
async def waits(ctx): await anyio.sleep(1000)

@runtime.handler(phase="tidies")
async def tidies(ctx):
    ctx.log("up")
    try:
        await anyio.sleep(1000)
    finally:
        ctx.log("last")

@runtime.handler(phase="beats")
async def beats(ctx):
    ctx.heartbeat({"at": 1})
    await until_heard(ctx)

@runtime.handler(phase="progresses")
async def progresses(ctx):
    ctx.progress(1, 2, "rows")
    await until_heard(ctx)
"""
