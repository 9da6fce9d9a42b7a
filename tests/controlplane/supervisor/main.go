// Command supervisor runs processes that end together with the one that wants
// them. It is not part of the program it mostly runs, because it would then
// take as much memory as that.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// spec says what the supervisor runs.
type spec struct {
	// Dir receives the pid files and the lock that says the supervisor runs.
	Dir string `json:"dir"`
	// Processes are started in this order. The first is stopped last: the
	// others depend on it.
	Processes []process `json:"processes"`
	// StopSeconds is how long a process has to end before it is killed. With
	// zero all are killed at once: nothing they would still write is wanted.
	StopSeconds float64 `json:"stop_seconds"`
	// Remove says that Dir is removed after an orderly end. It is kept when a
	// process failed: its logs say why.
	Remove bool `json:"remove"`
}

type process struct {
	Name string            `json:"name"`
	Argv []string          `json:"argv"`
	Env  map[string]string `json:"env"`
	// Log receives the process's standard output and error.
	Log string `json:"log"`
	// Restart starts the process again after someone else stopped it: it was
	// killed, or ended well. A process that fails is never restarted. While a
	// file <dir>/<name>.hold exists the restart waits.
	Restart bool `json:"restart"`
	// Ready is waited for before the next process is started.
	Ready *probe `json:"ready"`
}

// probe is a URL that answers 200 once a process is ready.
type probe struct {
	URL     string  `json:"url"`
	CA      string  `json:"ca"`
	Seconds float64 `json:"seconds"`
}

// child is a process of the spec over all of its restarts.
type child struct {
	process
	cmd *exec.Cmd // nil while it does not run
}

type ended struct {
	child *child
	err   error
}

type supervisor struct {
	spec
	children []*child
	ended    chan ended
	stop     chan string
	// ready says that all processes have been.
	ready bool
}

// errStopped is the orderly end while the processes were still being started.
var errStopped = errors.New("stopped")

const holdInterval = 50 * time.Millisecond

const usage = `usage: supervisor run [--detached] SPEC.json
       supervisor bind COMMAND [ARGUMENT...]`

func main() {
	switch {
	case len(os.Args) >= 3 && os.Args[1] == "run":
		os.Exit(supervise(os.Args[2:]))
	case len(os.Args) >= 3 && os.Args[1] == "bind":
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", bind(os.Args[2:]))
		os.Exit(127)
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// supervise runs the processes of a spec file until its standard input ends
// (with --detached: until it gets a signal) and returns the exit code.
//
// On standard output it says "ready" once all processes are, and closes it.
func supervise(args []string) int {
	detached := len(args) > 0 && args[0] == "--detached"
	if detached {
		args = args[1:]
	}
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}
	s := &supervisor{ended: make(chan ended), stop: make(chan string, 8)}
	if err := s.load(args[0]); err != nil {
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
		return 1
	}
	if detached {
		// Out of the terminal's session: closing it must not end the
		// control plane. It fails only where that is so already.
		_, _ = syscall.Setsid()
	}
	lock, err := s.lock()
	if err != nil {
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
		return 1
	}
	defer lock.Close()
	s.watch(detached)

	// The children are killed when the thread that started them ends, so all
	// are started from this one, which lives as long as the supervisor.
	runtime.LockOSThread()

	err = s.run()
	s.stopAll()
	_ = os.Remove(s.pidFile("supervisor"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
		if s.ready {
			// Before that, whoever started it looks after the folder.
			fmt.Fprintf(os.Stderr, "supervisor: the logs are kept in %s\n", s.Dir)
		}
		return 1
	}
	if s.Remove {
		if err := os.RemoveAll(s.Dir); err != nil {
			fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
			return 1
		}
	}
	return 0
}

func (s *supervisor) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &s.spec); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range s.Processes {
		if p.Name == "" || len(p.Argv) == 0 || p.Log == "" {
			return fmt.Errorf("%s: a process needs a name, argv and log", path)
		}
		s.children = append(s.children, &child{process: p})
	}
	return nil
}

// lock marks the folder as in use. Unlike a pid, the lock cannot outlive the
// supervisor, nor be taken for that of another process.
func (s *supervisor) lock() (*os.File, error) {
	path := filepath.Join(s.Dir, "supervisor.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another supervisor runs in %s: %w", s.Dir, err)
	}
	return file, s.writePid("supervisor", os.Getpid())
}

// watch reports the reasons to stop.
func (s *supervisor) watch(detached bool) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		for got := range signals {
			select {
			case s.stop <- got.String():
			default: // one reason is enough
			}
		}
	}()
	if !detached {
		go func() {
			// Nothing is ever written to it: it ends with the process
			// that holds the other end, however that one ends.
			_, _ = io.Copy(io.Discard, os.Stdin)
			s.stop <- "end of input"
		}()
	}
}

// run starts all processes and watches them. It returns nil when it was told
// to stop and an error when a process failed.
func (s *supervisor) run() error {
	for _, c := range s.children {
		if err := s.start(c); err != nil {
			return err
		}
		if c.Ready == nil {
			continue
		}
		err := s.waitReady(c)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.ready = true
	fmt.Println("ready")
	// The reader may go away now.
	_ = os.Stdout.Close()

	for {
		var again <-chan time.Time
		if running(s.children) < len(s.children) {
			again = time.After(holdInterval)
		}
		select {
		case <-s.stop:
			return nil
		case e := <-s.ended:
			if err := s.handleEnd(e); err != nil {
				return err
			}
		case <-again:
			for _, c := range s.children {
				if c.cmd == nil && !s.held(c) {
					if err := s.start(c); err != nil {
						return err
					}
				}
			}
		}
	}
}

func (s *supervisor) waitReady(c *child) error {
	ready := make(chan error, 1)
	go func() { ready <- c.Ready.wait() }()
	for {
		select {
		case <-s.stop:
			return errStopped
		case e := <-s.ended:
			if err := s.handleEnd(e); err != nil {
				return err
			}
			// Killed while it starts is killed all the same.
			if err := s.start(e.child); err != nil {
				return err
			}
		case err := <-ready:
			if err != nil {
				return fmt.Errorf("%s did not become ready: %w%s", c.Name, err, tail(c.Log))
			}
			return nil
		}
	}
}

func (s *supervisor) start(c *child) error {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir = s.Dir
	cmd.Env = os.Environ()
	for name, value := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = bound()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	c.cmd = cmd
	go func() { s.ended <- ended{c, cmd.Wait()} }()
	return s.writePid(c.Name, cmd.Process.Pid)
}

// handleEnd decides about a process that ended while it should run. The loop
// in run starts it again, at once or when it is no longer held.
func (s *supervisor) handleEnd(e ended) error {
	s.forget(e.child)
	if !e.child.Restart || !stoppedByOthers(e.err) {
		return failure(e)
	}
	how := "ended"
	if e.err != nil {
		how = e.err.Error()
	}
	fmt.Fprintf(os.Stderr, "supervisor: %s: %s; it is started again\n", e.child.Name, how)
	return nil
}

func stoppedByOthers(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err == nil
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM)
}

func failure(e ended) error {
	how := "exit status 0"
	if e.err != nil {
		how = e.err.Error()
	}
	return fmt.Errorf("%s ended unexpectedly: %s%s", e.child.Name, how, tail(e.child.Log))
}

func (s *supervisor) stopAll() {
	if len(s.children) == 0 {
		return
	}
	s.stopThese(s.children[1:])
	s.stopThese(s.children[:1])
}

func (s *supervisor) stopThese(children []*child) {
	if s.StopSeconds > 0 {
		signalAll(children, syscall.SIGTERM)
	} else {
		signalAll(children, syscall.SIGKILL)
	}
	patience := time.NewTimer(time.Duration(s.StopSeconds * float64(time.Second)))
	defer patience.Stop()
	for running(children) > 0 {
		select {
		case e := <-s.ended:
			s.forget(e.child)
		case <-patience.C:
			signalAll(children, syscall.SIGKILL)
		}
	}
}

func signalAll(children []*child, sig syscall.Signal) {
	for _, c := range children {
		if c.cmd != nil {
			_ = c.cmd.Process.Signal(sig)
		}
	}
}

func running(children []*child) int {
	count := 0
	for _, c := range children {
		if c.cmd != nil {
			count++
		}
	}
	return count
}

func (s *supervisor) forget(c *child) {
	c.cmd = nil
	_ = os.Remove(s.pidFile(c.Name))
}

func (s *supervisor) held(c *child) bool {
	_, err := os.Stat(filepath.Join(s.Dir, c.Name+".hold"))
	return err == nil
}

func (s *supervisor) pidFile(name string) string {
	return filepath.Join(s.Dir, name+".pid")
}

// writePid replaces a pid file in one step: its readers never see half a pid.
func (s *supervisor) writePid(name string, pid int) error {
	path := s.pidFile(name)
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// wait asks until the answer is 200.
func (p *probe) wait() error {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CA != "" {
		pem, err := os.ReadFile(p.CA)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config},
	}
	defer client.CloseIdleConnections()
	deadline := time.Now().Add(time.Duration(p.Seconds * float64(time.Second)))
	for {
		err := p.ask(client)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v s: %w", p.Seconds, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *probe) ask(client *http.Client) error {
	response, err := client.Get(p.URL)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", p.URL, response.Status, bytes.TrimSpace(body))
	}
	return nil
}

// tail returns the end of a log as an addition to an error message.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	data = bytes.TrimSpace(data)
	const size = 4096
	if len(data) > size {
		data = data[len(data)-size:]
		data = data[bytes.IndexByte(data, '\n')+1:]
	}
	return fmt.Sprintf("\n--- the end of %s:\n%s\n---", path, data)
}
