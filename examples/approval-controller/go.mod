module pilotage.dev/examples/approval-controller

go 1.24
