//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// bound has no counterpart outside of Linux: there only a supervisor that is
// itself killed leaves its children behind.
func bound() *syscall.SysProcAttr {
	return nil
}

// bind becomes another program.
func bind(argv []string) error {
	if len(argv) == 0 {
		return errors.New("bind: which program?")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}
