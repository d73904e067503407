package logfilter

import "strings"

// terms is an unstructured pattern. Optional terms count only where there are no others, as AWS documents.
type terms struct {
	include, exclude, optional []string
}

func compileTerms(p string) (matcher, error) {
	c := &cursor{s: p}
	var t terms
	for c.space(); !c.end(); {
		list := &t.include
		switch {
		case c.take("?"):
			list = &t.optional
		case c.take("-"):
			list = &t.exclude
		}
		term, err := c.term()
		if err != nil {
			return nil, err
		}
		*list = append(*list, term)
		if before := c.i; !c.end() {
			if c.space(); c.i == before {
				return nil, invalid(c.i, "a term with other than letters, digits and _ needs double quotes")
			}
		}
	}
	return &t, nil
}

func (t *terms) match(message string) bool {
	for _, s := range t.exclude {
		if strings.Contains(message, s) {
			return false
		}
	}
	for _, s := range t.include {
		if !strings.Contains(message, s) {
			return false
		}
	}
	if len(t.include) > 0 || len(t.exclude) > 0 {
		return true
	}
	for _, s := range t.optional {
		if strings.Contains(message, s) {
			return true
		}
	}
	return false
}

// term reads a word or a quoted phrase. The phrase " " stands for everything, so a blank one becomes empty.
func (c *cursor) term() (string, error) {
	if c.peek() == '"' {
		s, err := c.quoted('"')
		if strings.TrimSpace(s) == "" {
			s = ""
		}
		return s, err
	}
	w := c.word(isAlnum)
	if w == "" {
		return "", invalid(c.i, "a term with other than letters, digits and _ needs double quotes")
	}
	return w, nil
}
