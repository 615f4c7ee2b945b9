package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// tryChildMemory does to a child process what a suspend does to a VMM: it reads and writes its memory
// and reads its page map.
func tryChildMemory(ctx context.Context) error {
	path, err := exec.LookPath("cat")
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, path)
	input, err := child.StdinPipe() // cat waits for it
	if err != nil {
		return err
	}
	output, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start a child process: %w", err)
	}
	defer func() { _ = child.Wait() }()
	defer input.Close()
	// Its answer says that it runs its own program by now.
	if _, err := input.Write([]byte("\n")); err != nil {
		return err
	}
	if _, err := bufio.NewReader(output).ReadByte(); err != nil {
		return fmt.Errorf("read from a child process: %w", err)
	}
	start, err := stackOf(child.Process.Pid)
	if err != nil {
		return err
	}
	if err := touchMemory(child.Process.Pid, start); err != nil {
		return err
	}
	return readPageMap(child.Process.Pid, start)
}

// stackOf is the address of a page of the process that can be written without harm: the last of its stack.
func stackOf(pid int) (uint64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(maps) {
		if !bytes.HasSuffix(bytes.TrimSpace(line), []byte("[stack]")) {
			continue
		}
		bounds, _, _ := strings.Cut(string(line), " ")
		_, end, _ := strings.Cut(bounds, "-")
		address, err := strconv.ParseUint(end, 16, 64)
		if err != nil {
			return 0, fmt.Errorf("read the memory map of a child process: %w", err)
		}
		return address - uint64(os.Getpagesize()), nil
	}
	return 0, errors.New("a child process has no stack")
}

// touchMemory writes back what is there.
func touchMemory(pid int, at uint64) error {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	var word [8]byte
	if _, err := memory.ReadAt(word[:], int64(at)); err != nil {
		return err
	}
	_, err = memory.WriteAt(word[:], int64(at))
	return err
}

func readPageMap(pid int, at uint64) error {
	pages, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return err
	}
	defer pages.Close()
	var entry [8]byte
	if _, err := pages.ReadAt(entry[:], int64(at/uint64(os.Getpagesize())*8)); err != nil {
		return err
	}
	return nil
}
