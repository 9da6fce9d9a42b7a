package main

import (
	"fmt"
	"regexp"
	"strings"
)

// Decision is what is written into a request's status.approval.
type Decision struct {
	Decision   string            `json:"decision"`
	Comments   string            `json:"comments"`
	Properties map[string]string `json:"properties"`
	PlanHash   string            `json:"planHash"`
	// Newer API servers fill it in, and all compare it.
	By string `json:"by"`
}

// Rule is how this program decides. A real program would ask a ticket system, a test report or a person here. If that takes longer than the
// answer to an event may take, it would store the event and decide later.
type Rule struct {
	versions *regexp.Regexp
}

// NewRule makes the rule that approves versions which match the expression as a whole.
func NewRule(versions string) (*Rule, error) {
	expression, err := regexp.Compile("^(?:" + versions + ")$")
	if err != nil {
		return nil, fmt.Errorf("-versions: %w", err)
	}
	return &Rule{versions: expression}, nil
}

// Decide approves a request that has notes and an allowed version.
func (r *Rule) Decide(event *Event) Decision {
	data := &event.Data
	decision := Decision{Decision: "Approved", Properties: map[string]string{"decidedBy": "approval-controller", "rule": "notes-and-version"}}
	switch {
	case strings.TrimSpace(data.Notes) == "":
		decision.Decision = "Rejected"
		decision.Comments = "The request has no notes: make a new one and say in spec.notes what the deployment is for."
	case !r.versions.MatchString(data.Artifact.Version):
		decision.Decision = "Rejected"
		decision.Comments = fmt.Sprintf("Version %s of %s is not approved for stage %s: versions have to match %s.",
			data.Artifact.Version, data.Artifact.Solution, data.Stage, r.versions)
	default:
		decision.Comments = fmt.Sprintf("Version %s of %s is approved for stage %s.", data.Artifact.Version, data.Artifact.Solution, data.Stage)
	}
	return decision
}
