package netstack

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// sendQueue is how many frames wait for QEMU to read; what comes on top is dropped, as a
	// switch would. A paused VM reads nothing, so this bounds what it makes the daemon hold.
	sendQueue = 4096
	// writeBatch is about how many bytes go to QEMU in one system call at most.
	writeBatch = 64 << 10
)

// link is the network card of the stack: frames to and from QEMU.
type link struct {
	*channel.Endpoint
	conn net.Conn
	door door

	framesIn, bytesIn, framesOut, bytesOut atomic.Uint64

	mu   sync.Mutex
	syns map[uint16][]byte // guarded by mu: the SYN frame of each dial under way, by source port
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(conn net.Conn, local map[netip.Addr]bool) *link {
	return &link{
		// The Ethernet endpoint around this one takes its header off the MTU.
		Endpoint: channel.New(sendQueue, guest.MTU+header.EthernetMinimumSize, gatewayMAC),
		conn:     conn,
		door:     door{local: local},
		syns:     make(map[uint16][]byte),
	}
}

// readFrames feeds the guest's frames to the stack until the stream ends; it returns why it did.
func (l *link) readFrames() error {
	frames := newFrameReader(l.conn)
	for {
		frame, err := frames.next()
		if err != nil {
			return err
		}
		l.framesOut.Add(1)
		l.bytesOut.Add(uint64(frame.Size()))
		protocol, ok := l.door.admit(frame.AsSlice())
		if !ok {
			frame.Release()
			continue
		}
		l.inject(protocol, frame)
	}
}

func (l *link) inject(protocol tcpip.NetworkProtocolNumber, frame *buffer.View) {
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
	defer packet.DecRef()
	l.InjectInbound(protocol, packet)
}

// writeFrames sends the stack's frames to QEMU until ctx ends or the stream fails, which it then
// ends for both directions.
func (l *link) writeFrames(ctx context.Context) {
	var batch []byte // grows with what there is to send: most guests are idle most of the time
	for {
		packet := l.ReadContext(ctx)
		if packet == nil {
			return
		}
		batch = batch[:0]
		for packet != nil {
			l.framesIn.Add(1)
			l.bytesIn.Add(uint64(packet.Size()))
			batch = appendFrame(batch, packet.AsSlices()...)
			packet.DecRef()
			if len(batch) >= writeBatch {
				break
			}
			packet = l.Read()
		}
		if _, err := l.conn.Write(batch); err != nil {
			_ = l.conn.Close() // readFrames reports the end of the stream
			return
		}
	}
}

// WritePackets queues frames for QEMU and keeps a copy of the SYN of each dial under way.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	for _, packet := range packets.AsSlice() {
		if tcp := header.TCP(packet.TransportHeader().Slice()); packet.TransportProtocolNumber == header.TCPProtocolNumber &&
			len(tcp) >= header.TCPMinimumSize && tcp.Flags() == header.TCPFlagSyn {
			l.keepSYN(tcp.SourcePort(), packet)
		}
	}
	return l.Endpoint.WritePackets(packets)
}

func (l *link) keepSYN(port uint16, packet *stack.PacketBuffer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kept, watched := l.syns[port]; watched && kept == nil {
		view := packet.ToView()
		defer view.Release()
		l.syns[port] = view.ToSlice()
	}
}

// watchSYN makes the link keep the next SYN from port, for repeatSYN, until forgetSYN.
func (l *link) watchSYN(port uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syns[port] = nil
}

func (l *link) forgetSYN(port uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.syns, port)
}

// repeatSYN sends the kept SYN of port once more, unchanged, so that the guest sees one connection.
func (l *link) repeatSYN(port uint16) {
	l.mu.Lock()
	frame := l.syns[port]
	l.mu.Unlock()
	if frame == nil {
		return
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	var one stack.PacketBufferList
	one.PushBack(packet)
	defer one.Reset()                   // drops the packet's reference; the queue holds its own
	_, _ = l.Endpoint.WritePackets(one) // a full queue drops it, as it would any frame
}
