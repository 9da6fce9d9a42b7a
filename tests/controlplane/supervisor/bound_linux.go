package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// bound makes the kernel kill a child when the supervisor dies, even when that
// is itself killed.
func bound() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// bind becomes another program, which the kernel ends when the process (more
// exactly: the thread) that started this one ends.
func bind(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	parent := os.Getppid()
	// The setting belongs to the thread and stays with it through exec.
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0); errno != 0 {
		return errno
	}
	if os.Getppid() != parent {
		return errors.New("bind: the parent has ended")
	}
	return syscall.Exec(path, argv, os.Environ())
}
