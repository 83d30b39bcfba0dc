"""Files that call functions: known pickle attacks, in every container and with every calling instruction."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import torch

from tests import published as files
from tests.hostile import parts
from tests.hostile.parts import Raw, Table, call, mapping, module, name, number, program, raw, sequence, several, text

TOUCH = text("touch executed")
OPEN = text("open('executed', 'w')")
NESTED = parts.blob(program(call(name("os", "system"), TOUCH)))
BIG = number(10**11)

# Callables that a file may name, with arguments that would leave a trace: commands, code, files, sockets, memory.
CALLS: dict[str, tuple[bytes, ...]] = {
    # commands
    **dict.fromkeys(("os.system", "posix.system", "nt.system", "os.popen", "commands.getoutput"), (TOUCH,)),
    **dict.fromkeys(("subprocess.getoutput", "subprocess.getstatusoutput", "platform.popen"), (TOUCH,)),
    **dict.fromkeys(
        ("subprocess.Popen", "subprocess.call", "subprocess.run", "subprocess.check_output", "pty.spawn"),
        (sequence(text("touch"), text("executed")),),
    ),
    "os.execlp": (text("touch"), text("touch"), text("executed")),
    "os.spawnlp": (number(0), text("touch"), text("touch"), text("executed")),
    "posix.posix_spawn": (text("/bin/touch"), sequence(text("touch"), text("executed")), b"}"),
    "posix.fork": (),
    "distutils.spawn.spawn": (sequence(text("touch"), text("executed")),),
    "asyncio.create_subprocess_shell": (TOUCH,),
    "multiprocessing.util.spawnv_passfds": (parts.blob(b"/bin/touch"), sequence(), sequence()),
    "uuid._get_command_stdout": (text("touch"), text("executed")),
    "test.support.script_helper.assert_python_ok": (text("-c"), OPEN),
    "numpy.distutils.exec_command.exec_command": (TOUCH,),
    "torch.utils.collect_env.run": (TOUCH,),
    "pydoc.pipepager": (text("x"), TOUCH),
    # code
    **dict.fromkeys(("builtins.eval", "__builtin__.eval", "builtins.exec", "__builtin__.execfile"), (OPEN,)),
    **dict.fromkeys(("timeit.timeit", "profile.run", "cProfile.run", "pdb.run", "trace.Trace.run"), (OPEN,)),
    **dict.fromkeys(("code.interact", "codeop.compile_command", "numpy.testing._private.utils.runstring"), (OPEN,)),
    "builtins.compile": (OPEN, text("x"), text("exec")),
    "builtins.__import__": (text("antigravity"),),
    "__builtin__.__import__": (text("this"),),
    "importlib.import_module": (text("antigravity"),),
    "importlib.__import__": (text("this"),),
    "importlib.machinery.SourceFileLoader": (text("x"), text("executed")),
    "imp.load_source": (text("x"), text("executed")),
    "runpy.run_path": (text("executed"),),
    "runpy._run_code": (OPEN, b"}"),
    "zipimport.zipimporter": (text("executed"),),
    "pkgutil.resolve_name": (text("antigravity:fly"),),
    "pydoc.locate": (text("antigravity"),),
    "site.main": (),
    "pip.main": (sequence(text("install"), text("x")),),
    "idlelib.pyshell.main": (),
    "lib2to3.pgen2.driver.load_grammar": (text("executed"),),
    "logging.config.dictConfig": (mapping([(text("version"), number(1))]),),
    "code.InteractiveInterpreter": (),
    "builtins.breakpoint": (),
    "builtins.input": (text("executed"),),
    "builtins.print": (text("executed"),),
    # ways to reach other names
    "builtins.getattr": (call(name("builtins", "__import__"), text("os")), text("system")),
    "__builtin__.getattr": (call(name("__builtin__", "__import__"), text("os")), text("system")),
    "builtins.setattr": (name("os", "path"), text("x"), number(1)),
    "builtins.map": (name("os", "system"), sequence(TOUCH)),
    "builtins.filter": (name("os", "system"), sequence(TOUCH)),
    "builtins.globals": (),
    "builtins.vars": (),
    "builtins.type": (text("X"), b")", b"}"),
    "builtins.super": (),
    "builtins.apply": (name("os", "system"), several(TOUCH)),
    "operator.attrgetter": (text("system"),),
    "operator.methodcaller": (text("system"), TOUCH),
    "operator.itemgetter": (text("x"),),
    "functools.partial": (name("os", "system"), TOUCH),
    "functools.reduce": (name("os", "system"), sequence(TOUCH), TOUCH),
    "itertools.starmap": (name("os", "system"), sequence(several(TOUCH))),
    "types.FunctionType": (b"N", b"}"),
    "types.CodeType": (number(0),),
    "types.MethodType": (name("os", "system"), TOUCH),
    "types.SimpleNamespace": (),
    "copyreg._reconstructor": (name("subprocess", "Popen"), name("builtins", "object"), b"N"),
    "copy_reg._reconstructor": (name("os", "_wrap_close"), name("__builtin__", "object"), b"N"),
    "copyreg.__newobj__": (name("subprocess", "Popen"), TOUCH),
    "copyreg.add_extension": (text("os"), text("system"), number(1)),
    "weakref.finalize": (name("collections", "OrderedDict"), name("os", "system"), TOUCH),
    "atexit.register": (name("os", "system"), TOUCH),
    "threading.Timer": (number(0), name("os", "system")),
    "_thread.start_new_thread": (name("os", "system"), several(TOUCH)),
    "multiprocessing.Process": (),
    "gc.get_objects": (),
    "inspect.getsource": (name("os", "path"),),
    # pickles again
    **dict.fromkeys(("pickle.loads", "_pickle.loads", "cPickle.loads", "pickle._loads", "marshal.loads"), (NESTED,)),
    **dict.fromkeys(("dill.loads", "dill._dill.loads", "cloudpickle.loads", "torch.package.loads"), (NESTED,)),
    **dict.fromkeys(("pickle.Unpickler", "shelve.open", "joblib.load", "pandas.read_pickle"), (text("executed"),)),
    **dict.fromkeys(("torch.load", "torch.serialization.load", "torch.jit.load", "numpy.load"), (text("executed"),)),
    "torch.storage._load_from_bytes": (NESTED,),
    "cloudpickle.cloudpickle._builtin_type": (text("FunctionType"),),
    "cloudpickle.cloudpickle._make_skel_func": (b"N", number(0)),
    "joblib.numpy_pickle.NumpyArrayWrapper": (),
    # dill, whose plain objects a torch file may bring along
    "dill._dill._create_function": (b"N", b"}"),
    "dill._dill._create_code": (number(0),),
    "dill._dill._load_type": (text("FunctionType"),),
    "dill._dill._import_module": (text("antigravity"),),
    "dill._dill._eval_repr": (OPEN,),
    "dill._dill._get_attr": (name("dill._dill", "os"), text("system")),
    "dill._dill._create_filehandle": (text("executed"), text("w")),
    "dill._dill.exec": (OPEN,),
    # files
    **dict.fromkeys(("builtins.open", "io.open", "_io.open", "codecs.open"), (text("executed"), text("w"))),
    **dict.fromkeys(("io.FileIO", "_io.FileIO", "os.open", "pathlib.Path.open"), (text("executed"), text("w"))),
    "pathlib.Path": (text("executed"),),
    "shutil.rmtree": (text("."),),
    "shutil.copy": (text("/etc/hostname"), text("executed")),
    "os.remove": (text("executed"),),
    "os.mkdir": (text("executed"),),
    "os.chdir": (text("/"),),
    "os.putenv": (text("executed"), text("1")),
    "tempfile.mkstemp": (),
    "glob.glob": (text("/*"),),
    "linecache.getlines": (text("/etc/passwd"),),
    "sqlite3.connect": (text("executed"),),
    "tarfile.open": (text("executed"), text("w")),
    "zipfile.ZipFile": (text("executed"), text("w")),
    "numpy.fromfile": (text("/etc/passwd"),),
    "numpy.loadtxt": (text("/etc/passwd"),),
    "numpy.memmap": (text("executed"), text("u1"), text("w+")),
    "torch.from_file": (text("executed"), b"\x88", number(10**9)),
    "torch.save": (number(1), text("executed")),
    "logging.FileHandler": (text("executed"),),
    "ilo.priors.load.load": (text("executed"),),
    # the network
    **dict.fromkeys(("webbrowser.open", "urllib.request.urlopen", "urllib.urlopen"), (text("http://127.0.0.1:9/"),)),
    **dict.fromkeys(("torch.hub.load", "torch.hub.load_state_dict_from_url"), (text("http://127.0.0.1:9/x"),)),
    **dict.fromkeys(("dnnlib.util.open_url", "requests.get", "smtplib.SMTP", "ftplib.FTP"), (text("127.0.0.1"),)),
    "http.client.HTTPConnection": (text("127.0.0.1"),),
    "socket.create_connection": (several(text("127.0.0.1"), number(9)),),
    "xmlrpc.client.ServerProxy": (text("http://127.0.0.1:9/"),),
    # the process
    **dict.fromkeys(("sys.exit", "builtins.exit", "builtins.SystemExit", "os._exit", "posix._exit"), (number(3),)),
    **dict.fromkeys(("os.abort", "faulthandler._sigsegv", "builtins.KeyboardInterrupt"), ()),
    "signal.alarm": (number(1),),
    "signal.raise_signal": (number(9),),
    "os.kill": (number(0), number(9)),
    "resource.setrlimit": (number(7), several(number(0), number(0))),
    "time.sleep": (number(10**6),),
    "sys.setrecursionlimit": (number(10**9),),
    "sys.modules.clear": (),
    "ctypes.CDLL": (text("executed.so"),),
    "ctypes.string_at": (number(0),),
    "cffi.FFI": (),
    # codecs by other names than the one that old pickles of bytes use
    "_codecs.encode": (text("touch"), text("rot13")),
    "codecs.encode": (text("touch"), text("zlib")),
    "codecs.decode": (NESTED, text("bz2")),
    "_codecs.decode": (NESTED, text("unicode_escape")),
    "_codecs.lookup": (text("antigravity"),),
    "_codecs.register": (name("os", "system"),),
    # memory
    **dict.fromkeys(("builtins.bytearray", "builtins.bytes", "torch.zeros", "torch.empty", "numpy.zeros"), (BIG,)),
    **dict.fromkeys(("torch.FloatStorage", "torch.UntypedStorage", "torch.Tensor", "builtins.range"), (BIG,)),
    "numpy.core.multiarray._reconstruct": (name("numpy", "ndarray"), several(BIG), text("b")),
    "numpy._core.multiarray._reconstruct": (name("numpy", "ndarray"), several(BIG), text("b")),
    "numpy.ndarray": (several(BIG), text("f8")),
    "itertools.repeat": (number(1),),
    "array.array": (text("d"), sequence()),
    # torch's own
    "torch.ops.load_library": (text("executed.so"),),
    "torch.classes.load_library": (text("executed.so"),),
    "torch.utils.cpp_extension.load_inline": (text("x"), text("x")),
    "torch.package.PackageImporter": (text("executed"),),
    "torch.fx.graph_module.reduce_graph_module": (b"}", text("import antigravity")),
    "torch.nn.modules.linear.Linear": (BIG, BIG),
    "torch.nn.modules.module.Module": (),
    "torch._utils._rebuild_tensor": (number(0), number(0), b")", b")"),
    "torch._utils._rebuild_sparse_tensor": (number(0), b")"),
    "torch._utils._rebuild_wrapper_subclass": (name("builtins", "object"),),
    "torch._utils._rebuild_device_tensor_from_numpy": (number(0),),
    "torch._tensor._rebuild_from_type_v2": (name("os", "system"), name("builtins", "object"), several(TOUCH), b"}"),
    "torch._C._load_for_lite_interpreter": (text("executed"),),
    "torch._dynamo.compile": (name("os", "system"),),
    # the official programs' own
    "torch_utils.persistence.import_hook": (name("os", "system"),),
    "torch_utils.persistence._src_to_module": (text(files.SOURCE),),
    "dnnlib.util.call_func_by_name": (TOUCH, text("os.system")),
    "dnnlib.util.get_obj_by_name": (text("os.system"),),
    "dnnlib.tflib.network.Network": (),
}


def _styles(what: str, arguments: tuple[bytes, ...]) -> dict[str, bytes]:
    """The same call with every instruction that can make one."""
    owner, _, attribute = what.rpartition(".")
    short, stacked = name(owner, attribute), parts.stack_name(owner, attribute)
    first, _, rest = what.partition(".")
    given = several(*arguments)
    return {
        "reduce": program(short + given + b"R"),
        "stack-global": program(stacked + given + b"R", protocol=4),
        "inst": program(b"(" + b"".join(arguments) + f"i{owner}\n{attribute}\n".encode(), protocol=0),
        "obj": program(b"(" + short + b"".join(arguments) + b"o", protocol=1),
        "newobj": program(short + given + b"\x81"),
        "newobj-ex": program(stacked + given + b"}\x92", protocol=5),
        "build": program(short + given + b"\x81" + mapping([(text("__setstate__"), short)]) + b"b"),
        "dotted": program(parts.stack_name(first, rest) + given + b"R", protocol=4),
        "state-of-the-name": program(short + mapping([(text("__call__"), TOUCH)]) + b"b"),
        "as-a-state": program(parts.ORDERED + b")\x81" + short + given + b"Rb"),
    }


def alone() -> Table:
    """Each call as a separate pickle, with the calling instructions in turn."""
    made = {}
    for i, (what, arguments) in enumerate(CALLS.items()):
        styles = _styles(what, arguments)
        for style in (list(styles)[i % len(styles)], *(styles if what in ("os.system", "builtins.eval") else ())):
            made[f"{what}-{style}.pkl"] = raw(styles[style])
    return made


def _official_places() -> dict[str, Callable[[dict, Raw], Any]]:
    """Places in a genuine official pickle for a call."""

    def key(content: dict, code: Raw) -> Any:
        return Raw(mapping([(code.code, number(1))]))

    def at(path: str, kind: str, entry: str) -> Callable[[dict, Raw], Any]:
        return lambda content, code: parts.inner(content, path)[kind].__setitem__(entry, code)

    def state(entry: str) -> Callable[[dict, Raw], Any]:
        return lambda content, code: parts.rewritten(content, state={**parts.inner(content), entry: code})

    return {
        "parameter": at("mapping.fc0", "_parameters", "weight"),
        "buffer": at("synthesis.b4", "_buffers", "resample_filter"),
        "module": at("synthesis", "_modules", "b8"),
        "options": state("_init_kwargs"),
        "setstate": state("__setstate__"),
        "reduce": state("__reduce__"),
        "other-network": lambda content, code: content.__setitem__("D", code),
        "key": key,
        "generator": lambda content, code: content.__setitem__("G_ema", code),
        "state": lambda content, code: parts.rewritten(content, state=code),
        "class": lambda content, code: parts.rewritten(content, class_name=code),
    }


def _torch_places() -> dict[str, Callable[[dict, Raw], Any]]:
    """Places in a genuine rosinality checkpoint for a call."""
    return {
        "tensor": lambda content, code: content["g_ema"].__setitem__("style.1.weight", code),
        "average": lambda content, code: content.__setitem__("latent_avg", code),
        "state": lambda content, code: content.__setitem__("g_ema", code),
        "optimiser": lambda content, code: content.__setitem__("g_optim", code),
        "nothing-else": lambda content, code: code,
    }


WORST = ("os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "builtins.__import__")
WORST += ("torch.load", "pickle.loads", "builtins.getattr", "functools.partial", "copyreg._reconstructor", "sys.exit")


def contained() -> Table:
    """The worst calls inside genuine files, in each place and format in turn."""
    made: Table = {}

    def next_code() -> tuple[str, Raw]:
        what = WORST[len(made) % len(WORST)]
        owner, _, attribute = what.rpartition(".")
        return what, Raw(call(name(owner, attribute), *CALLS[what]))

    for place, change in _official_places().items():
        for protocol in (2, 3, 4, 5):
            what, code = next_code()
            made[f"official-{place}-{what}-p{protocol}.pkl"] = parts.official(
                lambda content, change=change, code=code: change(content, code), protocol=protocol
            )
    for place, change in _torch_places().items():
        for kind, suffix in (("zip", "pt"), ("old", "pt"), ("zip", "ckpt"), ("old", "ckpt")):
            what, code = next_code()
            made[f"torch-{kind}-{place}-{what}.{suffix}"] = parts.rosinality(
                lambda content, change=change, code=code: change(content, code), zipped=kind == "zip"
            )
    return made


def referred() -> Table:
    """Calls in the storage descriptions of torch files, and in the small pickles of the legacy format."""
    code = call(name("os", "system"), TOUCH)
    made = {}
    for i, place in enumerate(("whole", "word", "kind", "key", "device", "count", "view")):
        whole = [text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(4), b"N"]
        if i:
            whole[i - 1] = code
        identity = (several(*whole) if i else code) + b"Q"
        made[f"identity-{place}.pt"] = raw(parts.torch_zip(mapping([(text("g_ema"), identity)])))
    pickles = [parts.MAGIC, 1001, {"little_endian": True}, {"g_ema": {}}, []]
    for i, place in enumerate(("magic", "protocol", "system", "content", "keys")):
        changed = [pickle.dumps(value, 2) for value in pickles]
        changed[i] = program(code)
        for suffix in ("pt", "ckpt"):
            made[f"old-{place}.{suffix}"] = raw(b"".join(changed))
        made[f"old-{place}-in-a-tensor.pkl"] = raw(
            program(
                parts.generator_of(parameters=mapping([(text("w"), call(parts.LOAD, parts.blob(b"".join(changed))))]))
            )
        )
    return made


def passed_over() -> Table:
    """Code among the objects of training programs in torch files, which is ignored."""
    code = pickle.dumps(torch.nn.Linear, 2)
    made = {}
    for what, arguments in CALLS.items():
        if what.split(".")[0] in ("dill", "numpy"):
            owner, _, attribute = what.rpartition(".")
            value = Raw(call(name(owner, attribute), *arguments))
            made[f"beside-{what}.pt"] = parts.rosinality(
                lambda content, value=value: content.__setitem__("args", value)
            )
            made[f"instead-{what}.pt"] = parts.rosinality(
                lambda content, value=value: content["g_ema"].__setitem__("style.1.weight", value)
            )
    lambdas = call(name("dill._dill", "_create_function"), parts.blob(code), b"}", text("<lambda>"))
    state = mapping([(text("__setstate__"), lambdas), (text("__code__"), call(name("os", "system"), TOUCH))])
    made["lambda-with-a-call.pt"] = parts.rosinality(
        lambda content: content.__setitem__("args", Raw(lambdas + state + b"b"))
    )
    return made


def brought_along() -> Table:
    """Source code stored in an official pickle, in every field that NVIDIA's programs would run."""
    made: Table = {}
    for field in ("module_src", "type", "version", "class_name", "hooks"):
        pairs = [(text(field), text(files.SOURCE))]
        made[f"source-in-{field}.pkl"] = raw(
            program(mapping([(text("G_ema"), module(text("Generator"), b"}", pairs))]))
        )
        made[f"call-in-{field}.pkl"] = raw(
            program(
                mapping(
                    [
                        (
                            text("G_ema"),
                            module(text("Generator"), b"}", [(text(field), call(name("os", "system"), TOUCH))]),
                        )
                    ]
                )
            )
        )
    made["two-metas.pkl"] = raw(program(call(parts.MODULE, b"}", b"}")))
    made["meta-of-calls.pkl"] = raw(program(call(parts.MODULE, call(name("builtins", "eval"), OPEN))))
    return made


HARMLESS = ("beside-*.pt", "lambda-with-a-call.pt")  # inert, and not among the parts that are read


def table() -> Table:
    return alone() | contained() | referred() | passed_over() | brought_along()
