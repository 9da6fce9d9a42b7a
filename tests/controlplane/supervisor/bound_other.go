//go:build !linux

package main

import (
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
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}
