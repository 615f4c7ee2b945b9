package microvm

import "time"

// watchDelay keeps the watching of the app off the path of the first request: opening a
// connection costs the guest time while its code is cold, and an app that ends within the
// delay is still reported, because the agent keeps the event. It also paces new tries.
const watchDelay = 5 * time.Second

// watch reports to the actor when the app's main process ends. It ends with the session.
func (v *vm) watch(s running) {
	exits := make(chan int, 1)
	v.appExit = exits
	go func() {
		for {
			delay := v.m.clock.NewTimer(watchDelay)
			select {
			case <-delay.Chan():
			case <-s.networkDone():
				delay.Stop()
				return
			case <-v.life.Done():
				delay.Stop()
				return
			}
			if code, ended := v.awaitExit(s); ended {
				exits <- code
				return
			}
		}
	}()
}

// awaitExit returns when the app has ended, or with false when the agent cannot tell: a guest that is busy
// may refuse or lose the connection.
func (v *vm) awaitExit(s running) (code int, ended bool) {
	for event, err := range s.events(v.life) {
		if err != nil {
			break // if the VMM died, the actor sees that itself
		}
		if event.Exit != nil {
			return event.Exit.Code, true
		}
	}
	return 0, false
}
