import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from streamtrack.channel import Channel, ChannelClosed, Policy, Put


class ChannelMachine(RuleBasedStateMachine):
    """Puts, gets, ends and failures in any order: no item may be unaccounted for, reordered or handed out twice."""

    @initialize(capacity=st.integers(1, 4), policy=st.sampled_from(list(Policy)))
    def make(self, capacity, policy):
        self.dropped = []
        self.channel = Channel(capacity, policy, lambda item, cause: self.dropped.append((item, cause)))
        self.capacity, self.policy = capacity, policy
        self.offered, self.got, self.ended = 0, [], False

    @rule()
    def put(self):
        queued_before = self.channel.counts.queued
        outcome = self.channel.put(self.offered, timeout_s=0)
        full = queued_before == self.capacity and not self.ended
        expected = {
            Policy.BLOCK: Put.TIMED_OUT,
            Policy.LATEST: Put.EVICTED,
            Policy.DROP_NEWEST: Put.REJECTED,
        }[self.policy]
        assert outcome is (Put.CLOSED if self.ended else expected if full else Put.QUEUED)
        self.offered += outcome is not Put.TIMED_OUT

    @rule()
    def get(self):
        queued = self.channel.counts.queued
        try:
            self.got.append(self.channel.get(timeout_s=0))
        except TimeoutError:
            assert queued == 0
            assert not self.ended
        except ChannelClosed:
            assert queued == 0
            assert self.ended

    @rule()
    def stop(self):
        self.channel.close()
        self.ended = True

    @rule()
    def consumer_dies(self):
        self.channel.fail("the consumer died")
        self.ended = True
        assert self.channel.counts.queued == 0

    @invariant()
    def every_item_is_accounted_for(self):
        if not hasattr(self, "channel"):
            return
        counts = self.channel.counts
        assert counts.put == counts.got + counts.dropped + counts.queued == self.offered
        assert counts.got == len(self.got)
        assert counts.dropped == len(self.dropped)
        assert counts.queued <= self.capacity

    @invariant()
    def order_is_kept_and_nothing_comes_twice(self):
        if not hasattr(self, "channel"):
            return
        assert self.got == sorted(set(self.got))
        assert not set(self.got) & {item for item, _ in self.dropped}
        assert all(cause for _, cause in self.dropped)


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_item_is_unaccounted_for_in_any_sequence_of_calls(n):
    run_state_machine_as_test(ChannelMachine, settings=settings(max_examples=n, stateful_step_count=40, deadline=None))


@pytest.mark.parametrize("ending", ["close", "fail"])
def test_a_blocked_producer_is_released_and_its_item_counted(ending):
    dropped = []
    channel = Channel(1, Policy.BLOCK, lambda item, cause: dropped.append(item))
    assert channel.put("first", timeout_s=1) is Put.QUEUED
    outcomes = []
    producer = threading.Thread(target=lambda: outcomes.append(channel.put("second", timeout_s=30)))
    producer.start()
    time.sleep(0.05)
    channel.fail("the consumer died") if ending == "fail" else channel.close()
    producer.join(5)
    assert not producer.is_alive()
    assert outcomes == [Put.CLOSED]
    assert sorted(dropped) == (["first", "second"] if ending == "fail" else ["second"])


@pytest.mark.parametrize("policy", list(Policy))
def test_the_invariant_holds_between_racing_threads_when_the_consumer_dies(policy):
    dropped, got = [], []
    channel = Channel(3, policy, lambda item, cause: dropped.append(item))
    n_items = 2000

    def produce():
        for item in range(n_items):
            while channel.put(item, timeout_s=0.01) is Put.TIMED_OUT:
                pass

    def consume():
        while len(got) < 500:
            try:
                got.append(channel.get(timeout_s=0.5))
            except TimeoutError:
                break
        channel.fail("the consumer died")

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    counts = channel.counts
    assert counts.put == n_items
    assert (counts.got, counts.dropped, counts.queued) == (len(got), len(dropped), 0)
    assert sorted(got + dropped) == list(range(n_items))


def test_a_waiting_consumer_hears_the_end():
    channel = Channel(1, Policy.BLOCK, lambda item, cause: None)
    threading.Timer(0.05, channel.close).start()
    with pytest.raises(ChannelClosed, match="ended"):
        channel.get(timeout_s=5)


def test_capacity_is_checked():
    with pytest.raises(ValueError, match="at least 1"):
        Channel(0, Policy.BLOCK, lambda item, cause: None)
