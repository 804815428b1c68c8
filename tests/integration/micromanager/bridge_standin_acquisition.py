"""Acquisitions of the stand-in for Micro-Manager: what pycromanager's Java back end asks for, as small as it can be."""

import json
import threading
import time

import numpy as np
from bridge_standin_wire import Pull, Push, Remote, TaggedImage, bounded_queue, in_thread

TEXT, WHOLE, FLAG = "java.lang.String", "int", "boolean"


class HashMap(Remote):
    java_class, interfaces = "java.util.HashMap", ("java.util.Map",)
    api = (("put", "java.lang.Object", ("java.lang.Object", "java.lang.Object")),)

    def __init__(self):
        self.items = {}

    def put(self, key, value):
        self.items[key] = value


class ImageProcessor(Remote):
    """Sends images to the client's image_process_fn and takes back what it returns."""

    java_class = "org.micromanager.remote.RemoteImageProcessor"
    interfaces = ("org.micromanager.acqj.api.TaggedImageProcessor",)
    api = (("getPullPort", WHOLE, ()), ("getPushPort", WHOLE, ()), ("startPull", "void", ()), ("startPush", "void", ()))

    def __init__(self):
        self._push, self._pull = Push(), Pull()
        self.incoming, self.outgoing = bounded_queue(), bounded_queue()

    def getPullPort(self):
        return self._pull.port

    def getPushPort(self):
        return self._push.port

    def startPush(self):
        in_thread(self._send)

    def startPull(self):
        in_thread(self._receive)

    def _send(self):
        for image in iter(self.incoming.get, None):
            kind = "byte-array" if image.pix.itemsize == 1 else "short-array"
            self._push.send({"metadata": image.tags, "pixels": {"type": kind, "value": image.pix.tobytes()}})
        self._push.send({"special": "finished"})

    def _receive(self):
        while "special" not in (message := self._pull.receive(None)):
            tags = message["metadata"]
            dtype = np.uint8 if tags["PixelType"] == "GRAY8" else np.uint16
            pixels = np.frombuffer(message["pixels"], dtype).reshape(tags["Height"], tags["Width"])
            self.outgoing.put(TaggedImage(pixels, tags))
        self.outgoing.put(None)


class NotificationHandler(Remote):
    java_class = "org.micromanager.remote.RemoteNotificationHandler"
    takes = ("org.micromanager.acqj.api.AcquisitionAPI",)
    api = (("getPort", WHOLE, ()), ("start", "void", ()), ("notificationHandlingComplete", "void", ()))

    def __init__(self, acquisition):
        self._push = Push()
        acquisition.notify = self._send

    def getPort(self):
        return self._push.port

    def start(self):
        pass

    def notificationHandlingComplete(self):
        pass

    def _send(self, kind, milestone, payload):
        self._push.send({"type": kind, "milestone": milestone, "payload": payload})


class Storage(Remote):
    java_class = "org.micromanager.ndtiffstorage.NDRAMStorage"
    api = (
        ("getSummaryMetadata", "mmcorej.org.json.JSONObject", ()),
        ("getDiskLocation", TEXT, ()),
        ("isFinished", FLAG, ()),
        ("getImage", "mmcorej.TaggedImage", ("java.util.HashMap",)),
    )

    def __init__(self):
        self.images, self.is_finished = {}, False

    def getSummaryMetadata(self):
        return {}

    def getDiskLocation(self):
        return ""

    def isFinished(self):
        return self.is_finished

    def getImage(self, axes):
        return self.images[frozenset(axes.items.items())]


class DataSink(Remote):
    java_class = "org.micromanager.remote.RemoteViewerStorageAdapter"
    api = (("getStorage", "Storage", ()), ("isFinished", FLAG, ()), ("getViewer", "java.lang.Object", ()))

    def __init__(self):
        self.storage = Storage()

    def getStorage(self):
        return self.storage

    def isFinished(self):
        return self.storage.is_finished

    def getViewer(self):
        return None


class Acquisition(Remote):
    """Runs the events that come in: a list of them as a sequence of the camera, a single one as a snap."""

    java_class = "org.micromanager.remote.RemoteAcquisition"
    interfaces = ("org.micromanager.acqj.api.AcquisitionAPI",)
    api = (
        ("getDataSink", "DataSink", ()),
        ("areEventsFinished", FLAG, ()),
        ("isFinished", FLAG, ()),
        ("blockUntilEventsFinished", "void", ("double",)),
        ("waitForCompletion", "void", ()),
        ("checkForExceptions", "void", ()),
        ("getEventPort", WHOLE, ()),
        ("start", "void", ()),
        ("abort", "void", ()),
        ("addImageProcessor", "void", ("org.micromanager.acqj.api.TaggedImageProcessor",)),
    )

    def __init__(self, core):
        self._core, self._sink, self._pull = core, DataSink(), Pull()
        self._events_over, self._aborted, self._error = threading.Event(), False, None
        self._to_process = self._to_save = bounded_queue()
        self.notify = lambda *_: None
        in_thread(self._run)

    def getDataSink(self):
        return self._sink

    def areEventsFinished(self):
        return self._events_over.is_set()

    def isFinished(self):
        return self._events_over.is_set() and self._sink.isFinished()

    def blockUntilEventsFinished(self, timeout_s):
        self._events_over.wait(timeout_s)

    def waitForCompletion(self):
        while not self.isFinished():
            time.sleep(0.005)

    def checkForExceptions(self):
        if self._error is not None:
            raise self._error

    def getEventPort(self):
        return self._pull.port

    def start(self):
        pass

    def abort(self):
        self._aborted = True

    def addImageProcessor(self, processor):
        self._to_process, self._to_save = processor.incoming, processor.outgoing

    def _run(self):
        saver = None
        try:
            while not self._aborted:
                message = self._pull.receive(50)
                if message is None:
                    continue
                if saver is None:  # everything is set up by the time of the first events
                    saver = in_thread(self._save) or True
                events = message["events"]
                if "special" in events[-1]:
                    break
                self._acquire(events)
        except Exception as error:
            self._error = error
        if saver is None:
            in_thread(self._save)
        self._to_process.put(None)
        self._events_over.set()
        self.notify("global", "acq_events_finished", None)

    def _acquire(self, events):
        mmc = self._core.mmc
        self._apply(events[0])
        if len(events) == 1:
            mmc.snapImage()
            self._emit(self._core.getTaggedImage(), events[0])
            return
        mmc.startSequenceAcquisition(len(events), 0, True)
        for event in events:
            while not mmc.getRemainingImageCount():
                if self._aborted or mmc.isBufferOverflowed():
                    raise RuntimeError("Sequence buffer overflow")
                time.sleep(0.0005)
            self._emit(self._core.popNextTaggedImage(), event)

    def _apply(self, event):
        mmc = self._core.mmc
        if "exposure" in event:
            mmc.setExposure(event["exposure"])
        for device, name, value in event.get("properties", ()):
            mmc.setProperty(device, name, value)
        if "x" in event:
            mmc.setXYPosition(event["x"], event["y"])
            mmc.waitForDevice(mmc.getXYStageDevice())
        if "config_group" in event:
            mmc.setConfig(*event["config_group"])

    def _emit(self, image, event):
        image.tags["Axes"] = event["axes"]
        self._to_process.put(image)

    def _save(self):
        for image in iter(self._to_save.get, None):
            axes = image.tags["Axes"]
            self._sink.storage.images[frozenset(axes.items())] = image
            self.notify("image", "image_saved", json.dumps(axes))
        self._sink.storage.is_finished = True
        self.notify("image", "data_sink_finished", None)


def acquisition_classes(core):
    """Return what a client may construct, by its Java class."""

    class Factory(Remote):
        java_class, takes = "org.micromanager.remote.RemoteAcquisitionFactory", ("mmcorej.CMMCore",)
        api = (("createAcquisition", "RemoteAcquisition", (TEXT, TEXT, FLAG, WHOLE, FLAG)),)

        def __init__(self, _core):
            pass

        def createAcquisition(self, *_settings):
            return Acquisition(core)

    return {each.java_class: each for each in (HashMap, ImageProcessor, NotificationHandler, Factory)}
