package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The example of the specification of Standard Webhooks.
const (
	key       = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	id        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	stamp     = "1614265330"
	body      = `{"test": 2432232314}`
	signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func header(id, stamp, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", signature)
	return h
}

func TestOnlyWhatIsSignedAndOfNowIsBelieved(t *testing.T) {
	keys, err := ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1614265330, 0)
	if err := keys.Verify(header(id, stamp, "v1,bm9wZQ== "+signature), []byte(body), then); err != nil {
		t.Errorf("the example: %v", err)
	}
	for what, wrong := range map[string]error{
		"another body":      keys.Verify(header(id, stamp, signature), []byte(body+" "), then),
		"another id":        keys.Verify(header("other", stamp, signature), []byte(body), then),
		"another time":      keys.Verify(header(id, "1614265331", signature), []byte(body), then),
		"no signature":      keys.Verify(header(id, stamp, ""), []byte(body), then),
		"another algorithm": keys.Verify(header(id, stamp, strings.Replace(signature, "v1", "v1a", 1)), []byte(body), then),
		"an old delivery":   keys.Verify(header(id, stamp, signature), []byte(body), then.Add(6*time.Minute)),
	} {
		if wrong == nil {
			t.Errorf("%s was believed", what)
		}
	}
	for _, text := range []string{"", "canary", "whsec_!", "whsec_c2hvcnQ="} {
		if _, err := ParseKeys(text); err == nil {
			t.Errorf("%q was taken for a key", text)
		}
	}
}

func TestTheRule(t *testing.T) {
	rule, err := NewRule(`1\..*`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ notes, version, decision, comment string }{
		{"summer sale", "1.2.3", "Approved", "1.2.3"},
		{" ", "1.2.3", "Rejected", "notes"},
		{"summer sale", "2.1.0", "Rejected", "have to match"},
	} {
		var event Event
		event.Data.Notes, event.Data.Artifact.Version = c.notes, c.version
		decision := rule.Decide(&event)
		if decision.Decision != c.decision || !strings.Contains(decision.Comments, c.comment) {
			t.Errorf("%+v: %+v", c, decision)
		}
	}
}

func TestAStrangerIsTurnedAway(t *testing.T) {
	keys, _ := ParseKeys(key)
	answer := httptest.NewRecorder()
	(&Controller{keys: keys}).ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	if answer.Code != http.StatusUnauthorized {
		t.Errorf("answered %d", answer.Code)
	}
}
