"""A stand-in for Micro-Manager with its pycro-manager server switched on, for tests: run it as a program.

It speaks the server's side of the protocol (PyJavaZ 5.1.0) and has a real MMCore with the demo camera behind it: both
pycromanager's own client and ours work against it unchanged. It prints the port once it listens.

    python bridge_standin.py [--port 4827] [--tag "Objective-Label=60x@1.4NA"] [--two-cameras] [--bare] [--log FILE]
"""

import argparse
import queue
import socket

import mm_test_adapters
import pymmcore
from bridge_standin_acquisition import acquisition_classes
from bridge_standin_wire import Remote, Server, TaggedImage, set_first_port

TEXT, REAL, WHOLE, FLAG, ANY, NOTHING = "java.lang.String", "double", "int", "boolean", "java.lang.Object", "void"


class Vector(Remote):
    api = (("size", "long", ()), ("get", ANY, (WHOLE,)))

    def __init__(self, kind, values):
        self.java_class, self._values = f"mmcorej.{kind}Vector", list(values)

    def size(self):
        return len(self._values)

    def get(self, place):
        return self._values[place]


class Setting(Remote):
    java_class, api = "mmcorej.PropertySetting", (("getDeviceLabel", TEXT, ()),)

    def __init__(self, setting):
        self.getDeviceLabel = setting.getDeviceLabel


class Configuration(Remote):
    java_class = "mmcorej.Configuration"
    api = (("size", "long", ()), ("getSetting", "mmcorej.PropertySetting", ("long",)))

    def __init__(self, configuration):
        self._configuration = configuration

    def size(self):
        return self._configuration.size()

    def getSetting(self, place):
        return Setting(self._configuration.getSetting(place))


PASSED_ON = {
    TEXT: {
        "getVersionInfo": [()],
        "getCameraDevice": [()],
        "getXYStageDevice": [()],
        "getFocusDevice": [()],
        "getProperty": [(TEXT, TEXT)],
        "getCameraChannelName": [(WHOLE,)],
        "getCurrentPixelSizeConfig": [(), (FLAG,)],
        "getCurrentConfig": [(TEXT,)],
    },
    REAL: {
        "getExposure": [(), (TEXT,)],
        "getPixelSizeUm": [(), (FLAG,)],
        "getXPosition": [(), (TEXT,)],
        "getYPosition": [(), (TEXT,)],
        "getPosition": [(), (TEXT,)],
    },
    WHOLE: {"getRemainingImageCount": [()]},
    "long": {
        "getImageWidth": [()],
        "getImageHeight": [()],
        "getBytesPerPixel": [()],
        "getNumberOfComponents": [()],
        "getNumberOfCameraChannels": [()],
    },
    FLAG: {
        "isSequenceRunning": [()],
        "deviceBusy": [(TEXT,)],
        "hasProperty": [(TEXT, TEXT)],
        "getShutterOpen": [(), (TEXT,)],
        "isPropertyReadOnly": [(TEXT, TEXT)],
        "isGroupDefined": [(TEXT,)],
    },
    NOTHING: {
        "setExposure": [(REAL,), (TEXT, REAL)],
        "setProperty": [(TEXT, TEXT, TEXT), (TEXT, TEXT, REAL)],
        "setConfig": [(TEXT, TEXT)],
        "setShutterOpen": [(FLAG,), (TEXT, FLAG)],
        "setXYPosition": [(REAL, REAL), (TEXT, REAL, REAL)],
        "setPosition": [(REAL,), (TEXT, REAL)],
        "setROI": [(WHOLE, WHOLE, WHOLE, WHOLE)],
        "stop": [(TEXT,)],
        "snapImage": [()],
        "startContinuousSequenceAcquisition": [(REAL,)],
        "stopSequenceAcquisition": [()],
    },
}
"""Methods that go to the core as they are: by what they return, with the types of their arguments."""


LISTS = {
    "getLoadedDevices": (),
    "getDevicePropertyNames": (TEXT,),
    "getAvailableConfigGroups": (),
    "getAvailableConfigs": (TEXT,),
}
"""Methods that return a list of texts, with the types of their arguments."""


class Core(Remote):
    java_class = "mmcorej.CMMCore"
    api = (
        *((name, gives, takes) for gives, names in PASSED_ON.items() for name, all_ in names.items() for takes in all_),
        *((name, "mmcorej.StrVector", takes) for name, takes in LISTS.items()),
        ("getPixelSizeAffine", "mmcorej.DoubleVector", (FLAG,)),
        ("getPixelSizeAffineByID", "mmcorej.DoubleVector", (TEXT,)),
        ("getConfigData", "mmcorej.Configuration", (TEXT, TEXT)),
        ("getLastTaggedImage", "mmcorej.TaggedImage", ()),
    )

    def __init__(self, mmc, tags, bare=False):
        self.mmc, self._tags, self._bare = mmc, tags, bare

    def __getattr__(self, name):
        method = getattr(self.mmc, name)
        return (lambda *args: Vector("Str", method(*args))) if name in LISTS else method

    def getPixelSizeAffine(self, cached):
        return Vector("Double", self.mmc.getPixelSizeAffine(cached))

    def getPixelSizeAffineByID(self, name):
        return Vector("Double", self.mmc.getPixelSizeAffineByID(name))

    def getConfigData(self, group, preset):
        return Configuration(self.mmc.getConfigData(group, preset))

    def getLastTaggedImage(self):
        metadata = pymmcore.Metadata()
        return self.tagged(self.mmc.getLastImageMD(metadata), metadata)

    def popNextTaggedImage(self):
        metadata = pymmcore.Metadata()
        return self.tagged(self.mmc.popNextImageMD(metadata), metadata)

    def getTaggedImage(self):
        return self.tagged(self.mmc.getImage(), None)

    def tagged(self, pixels, metadata):
        tags = {} if self._bare else self._channel()
        if metadata and not self._bare:
            tags |= {key: metadata.GetSingleTag(key).GetValue() for key in metadata.GetKeys()}
        height, width = pixels.shape
        pixel_type = "GRAY8" if pixels.itemsize == 1 else "GRAY16"
        return TaggedImage(pixels, {**tags, **self._tags, "Width": width, "Height": height, "PixelType": pixel_type})

    def _channel(self):
        return {"Channel": self.mmc.getCurrentConfigFromCache(self.mmc.getChannelGroup()) or "Default"}


def demo_core():
    mmc = pymmcore.CMMCore()
    folder = mm_test_adapters.device_adapter_path()
    mmc.setDeviceAdapterSearchPaths([folder])
    mmc.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    mmc.setCircularBufferMemoryFootprint(32)
    for name, value in {"OnCameraCCDXSize": "128", "OnCameraCCDYSize": "96", "PixelType": "16bit"}.items():
        mmc.setProperty("Camera", name, value)
    mmc.setExposure(10.0)
    return mmc


def bundle_cameras(mmc):
    mmc.loadDevice("Second", "DemoCamera", "DCam")
    mmc.loadDevice("Both", "Utilities", "Multi Camera")
    for device in ("Second", "Both"):
        mmc.initializeDevice(device)
    for name in ("OnCameraCCDXSize", "OnCameraCCDYSize", "PixelType"):
        mmc.setProperty("Second", name, mmc.getProperty("Camera", name))
    for place, camera in enumerate(("Camera", "Second"), 1):
        mmc.setProperty("Both", f"Physical Camera {place}", camera)
    mmc.setCameraDevice("Both")
    mmc.setExposure(10.0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tag", action="append", default=[], help="NAME=VALUE: a further tag of every image")
    parser.add_argument("--two-cameras", action="store_true", help="in one device")
    parser.add_argument("--bare", action="store_true", help="images without the core's tags")
    parser.add_argument("--log", help="file for every request that comes, one a line")
    options = parser.parse_args()
    port = options.port or free_port()
    set_first_port(port + 1)
    mmc = demo_core()
    if options.two_cameras:
        bundle_cameras(mmc)
    core = Core(mmc, dict(tag.split("=", 1) for tag in options.tag), options.bare)
    log = queue.Queue()
    classes = {"mmcorej.CMMCore": lambda: core, **acquisition_classes(core)}
    Server(port, classes, log, is_main=True).start()
    print(port, flush=True)
    while True:
        request = log.get()
        if options.log:
            with open(options.log, "a", encoding="utf-8") as file:
                file.write(request + "\n")


if __name__ == "__main__":
    main()
