package microvm

import (
	"context"
	"time"
)

// watchDelay keeps the watching of the app off the path of the first request: opening a
// connection costs the guest time while its code is cold, and an app that ends within the
// delay is still reported, because the agent keeps the event.
const watchDelay = time.Second

// watch reports to the actor when the app's main process ends. It ends with the session.
func (v *vm) watch(s running) {
	if s == nil {
		return
	}
	exits := make(chan int, 1)
	v.appExit = exits
	delay := v.m.clock.NewTimer(watchDelay)
	go func() {
		select {
		case <-delay.Chan():
		case <-s.networkDone():
			delay.Stop()
			return
		}
		ctx, cancel := context.WithCancel(v.m.running)
		defer cancel()
		for event, err := range s.events(ctx) {
			if err != nil {
				return // the session has ended; if the VMM died, the actor sees that itself
			}
			if event.Exit != nil {
				exits <- event.Exit.Code
				return
			}
		}
	}()
}
